"""The measurement table: its schema, its files, and the tables that are shipped."""

from qidbayes.table.catalogue import list_tables, load_table
from qidbayes.table.digest import table_hash
from qidbayes.table.given import join_tables, read_table
from qidbayes.table.write import write_table

__all__ = ["join_tables", "list_tables", "load_table", "read_table", "table_hash", "write_table"]
