"""What users keep in a database, each model over a connection that the database room lends it."""
