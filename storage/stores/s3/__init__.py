"""S3: ``store.S3Store`` writes and reads through boto3; ``reader.S3Reader`` only reads, without boto3."""
