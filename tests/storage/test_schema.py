from tests.databases import run_sync
from storage import schema
def test_x(database_url):
    print(run_sync(database_url, schema.faults))
    assert run_sync(database_url, schema.revision)=="0001"
