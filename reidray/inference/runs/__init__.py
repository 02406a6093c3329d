"""Run the embedding of a job: choose its engine, measure its time, and write a Parquet file."""
