"""EMR Serverless on this machine: its API behind the real client, and jobs that really run."""
