"""Amazon S3's REST API, as far as a backup in the Glacier classes needs it."""
