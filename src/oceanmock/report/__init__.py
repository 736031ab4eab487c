"""Explanations, timelines, drawings and transition coverage."""
