"""Lock folders and create files exclusively, on local disks and in object stores."""
