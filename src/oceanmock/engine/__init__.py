"""What lives in a sandbox: the tasks of OCP, the dags of obshell, and the clock they live by."""
