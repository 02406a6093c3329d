"""Read and write files on local disks and in object stores; outputs appear whole."""
