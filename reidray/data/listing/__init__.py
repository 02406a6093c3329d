"""List the images of a folder or a bucket, in memory that does not grow with their number.

    listing = write_listing(images, work, "gallery", run_tasks, with_stamps=True, check_names=check)
    for shard in listing.shards:
        paths = listing.read(shard, ["path"])["path"]

The rows go to Parquet files, sorted by path. A bucket is listed by parallel tasks, which write the
files themselves.
"""
