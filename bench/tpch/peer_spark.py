"""The 22 TPC-H queries through Spark SQL on two worker processes of one core each (`local-cluster`); one JSON
line on stdout. Needs Java 17 and `pip install pyspark==3.5.5`.

    python peer_spark.py DATA STATEMENTS [MEMORY OF A WORKER IN MIB]
"""

import json
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from spark import session  # noqa: E402


def main() -> None:
    data, statements = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    spark = session("tpch", int(sys.argv[3]) if len(sys.argv) > 3 else 2048)
    spark.sparkContext.setLogLevel("ERROR")
    for table in sorted(data.iterdir()):
        spark.read.parquet(str(table)).createOrReplaceTempView(table.name)
    queries = []
    for statement in sorted(statements.glob("q*.sql")):
        began = time.perf_counter()
        rows = spark.sql(statement.read_text()).collect()
        queries.append({"name": statement.stem, "wall_s": time.perf_counter() - began, "rows": len(rows)})
    print(json.dumps({"queries": queries}))
    spark.stop()


if __name__ == "__main__":
    main()
