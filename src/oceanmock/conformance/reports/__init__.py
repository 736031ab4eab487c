"""Show the results of conformance runs: in a terminal, and as HTML, JSON and JUnit XML."""
