"""Lock folders and claim files, on local disks and in object stores."""
