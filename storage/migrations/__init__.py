"""The steps that bring a database to the declared schema; `storage.schema` runs them."""
