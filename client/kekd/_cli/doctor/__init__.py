"""`kekctl doctor`: tests a deployment, with one module for each check."""
