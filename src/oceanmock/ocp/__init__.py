"""OCP: states, operations, machine, scenario format, handlers, authentication and checks."""
