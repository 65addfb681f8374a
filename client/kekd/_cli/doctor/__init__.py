"""What `kekctl doctor` looks at, a file each."""
