"""Time the stages of a job on a sample of its images, before the job runs."""
