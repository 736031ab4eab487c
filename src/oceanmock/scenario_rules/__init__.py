"""What only a whole scenario can show, one module for each format."""
