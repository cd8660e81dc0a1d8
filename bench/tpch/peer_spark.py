"""The 22 TPC-H queries through Spark SQL on two worker processes of one core each (`local-cluster`); one JSON
line on stdout. Needs Java 17 and `pip install pyspark==3.5.5`.

    python peer_spark.py DATA STATEMENTS [MEMORY OF A WORKER IN MIB]
"""

import json
import os
import pathlib
import sys
import time

from pyspark.sql import SparkSession


def session(memory: int) -> SparkSession:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local-cluster[2,1,{memory}]").appName("tpch")
    settings = {
        "spark.executor.memory": f"{memory}m",
        "spark.driver.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def main() -> None:
    data, statements = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    spark = session(int(sys.argv[3]) if len(sys.argv) > 3 else 2048)
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
