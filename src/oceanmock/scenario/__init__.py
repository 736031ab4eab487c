"""The scenario language: files, fields, faults, submit calls and stories."""
