"""obshell: states, operators, machine, scenario format, handlers, authentication and checks."""
