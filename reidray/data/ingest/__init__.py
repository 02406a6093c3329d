"""Give training processes the crops of images, from memory or decoded anew in every epoch.

*Resident* decodes every image once and keeps the crops in the object store of Ray. *Stream* decodes
them in every epoch, while the network computes, in memory that does not grow with the data set.
Both give the same pixels:

    files = ImageFiles(location, paths, groups, size)
    crops = ingest(files, choose_ingest_mode(files, "auto"))   # in the driver
    for group in crops.open().read(batches): ...               # in each training process

"""
