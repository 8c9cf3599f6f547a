"""How it is kept: tables, the ledger (the one door for writes), queries, migrations."""
