-- Every kind of query that a plan can take apart wrongly, over the TPC-H tables, `readings` (nulls everywhere)
-- and `nothing` (the same columns, no rows). Orders under LIMIT, windows and texts are total: each statement has
-- one answer.

-- name: union_all
SELECT n_name AS name, n_regionkey AS k FROM nation
UNION ALL
SELECT r_name, r_regionkey FROM region
UNION ALL
SELECT n_name, n_regionkey FROM nation WHERE n_regionkey = 2

-- name: union_distinct
SELECT c_nationkey AS k FROM customer UNION SELECT s_nationkey FROM supplier UNION SELECT n FROM readings

-- name: union_of_aggregates
SELECT 'customers' AS what, count(*) AS rows, sum(c_acctbal) AS total FROM customer
UNION ALL
SELECT 'suppliers', count(*), sum(s_acctbal) FROM supplier
UNION ALL
SELECT 'nobody', count(*), sum(price) FROM nothing

-- name: union_over_join_and_limit
SELECT * FROM (
  SELECT o_orderkey AS k, 'high' AS what FROM orders ORDER BY o_totalprice DESC, o_orderkey LIMIT 7
) AS high
UNION ALL
SELECT * FROM (
  SELECT o_orderkey, 'low' FROM orders ORDER BY o_totalprice, o_orderkey LIMIT 7
) AS low
UNION ALL
SELECT l_orderkey, 'line' FROM lineitem JOIN part ON l_partkey = p_partkey WHERE p_size = 50 AND l_quantity = 50

-- name: union_with_other_types
SELECT n AS v FROM readings WHERE n > 30 UNION ALL SELECT x FROM readings WHERE x > 95

-- name: intersect
SELECT c_nationkey AS k FROM customer WHERE c_acctbal > 9000 INTERSECT SELECT s_nationkey FROM supplier

-- name: intersect_with_nulls
SELECT room, flag FROM readings WHERE id < 1500 INTERSECT SELECT room, flag FROM readings WHERE id >= 1500

-- name: intersect_nothing
SELECT id FROM readings INTERSECT SELECT id FROM nothing

-- name: except
SELECT p_partkey AS k FROM part EXCEPT SELECT l_partkey FROM lineitem WHERE l_quantity > 25

-- name: except_with_nulls
SELECT room, n FROM readings WHERE id % 2 = 0 EXCEPT SELECT room, n FROM readings WHERE id % 2 = 1

-- name: except_of_itself
SELECT o_custkey FROM orders EXCEPT SELECT o_custkey FROM orders

-- name: limit_with_order
-- ordered
SELECT l_orderkey, l_linenumber, l_extendedprice FROM lineitem ORDER BY l_extendedprice DESC, l_orderkey, l_linenumber LIMIT 25

-- name: limit_with_offset
-- ordered
SELECT o_orderkey, o_totalprice FROM orders ORDER BY o_totalprice, o_orderkey LIMIT 10 OFFSET 5000

-- name: offset_alone
-- ordered
SELECT c_custkey FROM customer ORDER BY c_custkey OFFSET 1490

-- name: offset_past_the_end
-- ordered
SELECT n_name FROM nation ORDER BY n_name LIMIT 5 OFFSET 100

-- name: limit_zero
-- ordered
SELECT n_name FROM nation ORDER BY n_name LIMIT 0

-- name: limit_over_aggregate
-- ordered
SELECT l_partkey, sum(l_quantity) AS q FROM lineitem GROUP BY l_partkey ORDER BY q DESC, l_partkey LIMIT 12

-- name: limit_in_a_subquery
SELECT count(*) AS n, sum(l_quantity) AS q
FROM lineitem
WHERE l_orderkey IN (SELECT o_orderkey FROM orders ORDER BY o_totalprice DESC, o_orderkey LIMIT 100)

-- name: order_nulls_first_and_last
-- ordered
SELECT id, room, n FROM readings ORDER BY room DESC NULLS LAST, n ASC NULLS FIRST, id LIMIT 400

-- name: order_of_all_rows
-- ordered
SELECT id, at, day FROM readings ORDER BY day, at DESC, id

-- name: window_row_number
SELECT id, row_number() OVER (PARTITION BY room ORDER BY x DESC NULLS LAST, id) AS place FROM readings

-- name: window_ranks
SELECT
  id,
  rank() OVER (PARTITION BY room ORDER BY n) AS r,
  dense_rank() OVER (PARTITION BY room ORDER BY n) AS d,
  percent_rank() OVER (PARTITION BY room ORDER BY n) AS p,
  cume_dist() OVER (PARTITION BY room ORDER BY n) AS c,
  ntile(7) OVER (PARTITION BY room ORDER BY n, id) AS t
FROM readings

-- name: window_lag_and_lead
SELECT
  id,
  lag(x) OVER (PARTITION BY room ORDER BY id) AS before,
  lead(x, 3) OVER (PARTITION BY room ORDER BY id) AS later,
  lag(n, 2, -1) OVER (PARTITION BY room ORDER BY id) AS n_before,
  x - lag(x) OVER (PARTITION BY room ORDER BY id) AS step
FROM readings

-- name: window_first_last_nth
SELECT
  id,
  first_value(note) OVER (PARTITION BY room ORDER BY id) AS first_note,
  last_value(note) OVER (
    PARTITION BY room ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
  ) AS last_note,
  nth_value(n, 3) OVER (PARTITION BY room ORDER BY id) AS third
FROM readings

-- name: window_moving_sums
SELECT
  id,
  sum(x) OVER (PARTITION BY room ORDER BY id ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) AS s,
  avg(x) OVER (PARTITION BY room ORDER BY id ROWS BETWEEN 3 PRECEDING AND 3 FOLLOWING) AS a,
  min(n) OVER (PARTITION BY room ORDER BY id ROWS BETWEEN 9 PRECEDING AND 1 PRECEDING) AS lo,
  max(n) OVER (PARTITION BY room ORDER BY id ROWS BETWEEN CURRENT ROW AND 9 FOLLOWING) AS hi,
  count(x) OVER (PARTITION BY room ORDER BY id ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) AS c,
  sum(price) OVER (PARTITION BY room ORDER BY id ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) AS p
FROM readings

-- name: window_running_total
SELECT id, sum(n) OVER (ORDER BY id) AS total, count(*) OVER (ORDER BY id) AS place FROM readings

-- name: window_range_frame
SELECT
  id,
  sum(n) OVER (PARTITION BY room ORDER BY id RANGE BETWEEN 20 PRECEDING AND 20 FOLLOWING) AS s,
  count(*) OVER (PARTITION BY room ORDER BY n RANGE BETWEEN CURRENT ROW AND CURRENT ROW) AS peers
FROM readings

-- name: window_range_of_days
SELECT id, count(*) OVER (ORDER BY day RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW) AS week
FROM readings
WHERE day IS NOT NULL

-- name: window_groups_frame
SELECT id, sum(n) OVER (PARTITION BY room ORDER BY flag GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM readings

-- name: window_over_whole_table
SELECT id, n - min(n) OVER () AS above, count(*) OVER () AS all_rows FROM readings

-- name: window_over_aggregate
SELECT
  o_orderpriority,
  o_orderstatus,
  count(*) AS orders,
  sum(count(*)) OVER (PARTITION BY o_orderpriority) AS of_priority,
  rank() OVER (ORDER BY sum(o_totalprice) DESC) AS place
FROM orders
GROUP BY o_orderpriority, o_orderstatus

-- name: window_over_join
SELECT o_orderkey, c_name, place
FROM (
  SELECT
    o_orderkey,
    c_name,
    row_number() OVER (PARTITION BY c_nationkey ORDER BY o_totalprice DESC, o_orderkey) AS place
  FROM orders JOIN customer ON o_custkey = c_custkey
) AS placed
WHERE place <= 3

-- name: windows_of_two_orders
SELECT
  id,
  row_number() OVER (PARTITION BY room ORDER BY id) AS a,
  row_number() OVER (PARTITION BY flag ORDER BY id DESC) AS b,
  count(*) OVER (PARTITION BY room, flag) AS c
FROM readings

-- name: window_over_nothing
SELECT id, row_number() OVER (PARTITION BY room ORDER BY id) AS place, sum(x) OVER () AS s FROM nothing

-- name: qualify_by_subquery
SELECT l_orderkey, l_linenumber
FROM (
  SELECT l_orderkey, l_linenumber, rank() OVER (PARTITION BY l_orderkey ORDER BY l_extendedprice DESC) AS r FROM lineitem
) AS ranked
WHERE r = 1

-- name: scalar_subquery
SELECT count(*) AS n FROM lineitem WHERE l_extendedprice > (SELECT avg(l_extendedprice) * 2 FROM lineitem)

-- name: scalar_subquery_in_select
SELECT r_name, (SELECT count(*) FROM nation) AS nations, (SELECT max(n_name) FROM nation) AS last FROM region

-- name: scalar_subquery_of_nothing
SELECT r_name, (SELECT max(id) FROM nothing) AS none FROM region WHERE (SELECT count(*) FROM nothing) = 0

-- name: correlated_scalar_subquery
SELECT c_custkey, (SELECT sum(o_totalprice) FROM orders WHERE o_custkey = c_custkey) AS spent
FROM customer
WHERE c_nationkey = 3

-- name: correlated_count
SELECT n_name, (SELECT count(*) FROM supplier WHERE s_nationkey = n_nationkey AND s_acctbal > 5000) AS rich FROM nation

-- name: correlated_comparison
SELECT o_orderkey
FROM orders AS o
WHERE o_totalprice > (SELECT 1.8 * avg(i.o_totalprice) FROM orders AS i WHERE i.o_custkey = o.o_custkey)

-- name: exists_and_not_exists
SELECT c_custkey
FROM customer
WHERE EXISTS (SELECT 1 FROM orders WHERE o_custkey = c_custkey AND o_orderstatus = 'P')
  AND NOT EXISTS (SELECT 1 FROM orders WHERE o_custkey = c_custkey AND o_totalprice > 300000)

-- name: exists_with_two_conditions
SELECT s_suppkey
FROM supplier
WHERE EXISTS (
  SELECT 1 FROM partsupp, part
  WHERE ps_suppkey = s_suppkey AND ps_partkey = p_partkey AND p_size > 45 AND ps_supplycost < s_acctbal / 20
)

-- name: in_with_nulls
SELECT id FROM readings WHERE n IN (SELECT n FROM readings WHERE room = 'attic')

-- name: not_in_without_nulls
SELECT id FROM readings WHERE n NOT IN (SELECT n FROM readings WHERE room = 'attic' AND n IS NOT NULL AND n > 20)

-- name: not_in_with_nulls
SELECT id FROM readings WHERE n NOT IN (SELECT n FROM readings WHERE room = 'attic')

-- name: not_in_nothing
SELECT id FROM readings WHERE n NOT IN (SELECT n FROM nothing)

-- name: in_list_and_null_logic
SELECT id, n IN (1, 2, NULL) AS a, NOT (n = 3) AS b, flag AND n > 0 AS c, flag OR n > 0 AS d, n IS DISTINCT FROM 4 AS e
FROM readings

-- name: grouping_sets
SELECT room, flag, count(*) AS rows, sum(n) AS s, grouping(room) AS g, grouping(flag) AS h
FROM readings
GROUP BY GROUPING SETS ((room, flag), (room), (flag), ())

-- name: rollup
SELECT o_orderstatus, o_orderpriority, count(*) AS orders, sum(o_totalprice) AS total
FROM orders
GROUP BY ROLLUP (o_orderstatus, o_orderpriority)

-- name: cube
SELECT l_returnflag, l_linestatus, l_shipmode, sum(l_quantity) AS q, min(l_shipdate) AS first
FROM lineitem
GROUP BY CUBE (l_returnflag, l_linestatus, l_shipmode)

-- name: aggregate_filter
SELECT
  room,
  count(*) FILTER (WHERE flag) AS yes,
  sum(n) FILTER (WHERE n > 0) AS positive,
  avg(x) FILTER (WHERE NOT flag) AS no_avg,
  max(note) FILTER (WHERE note LIKE 'o%') AS note
FROM readings
GROUP BY room

-- name: distinct_rows
SELECT DISTINCT room, flag, n % 5 AS m FROM readings

-- name: distinct_aggregates
SELECT
  room,
  count(DISTINCT n) AS ns,
  sum(DISTINCT n) AS s,
  count(DISTINCT note) AS notes,
  count(DISTINCT day) AS days,
  count(*) AS rows,
  sum(n) AS all_n
FROM readings
GROUP BY room

-- name: distinct_aggregate_of_all
SELECT count(DISTINCT l_suppkey) AS suppliers, count(DISTINCT l_shipdate) AS days, count(*) AS rows FROM lineitem

-- name: distinct_on_floats_with_both_zeroes
SELECT count(DISTINCT x) AS xs, min(x) AS lo, max(x) AS hi FROM readings

-- name: float_aggregates
SELECT
  room,
  sum(x) AS s,
  avg(x) AS a,
  var_pop(x) AS vp,
  var_samp(x) AS vs,
  stddev_pop(x) AS dp,
  stddev(x) AS ds,
  covar_pop(x, n) AS cp,
  covar_samp(x, n) AS cs,
  corr(x, n) AS r
FROM readings
GROUP BY room

-- name: float_regression
SELECT
  regr_slope(x, n) AS slope,
  regr_intercept(x, n) AS intercept,
  regr_count(x, n) AS pairs,
  regr_r2(x, n) AS r2,
  regr_avgx(x, n) AS ax,
  regr_avgy(x, n) AS ay,
  regr_sxx(x, n) AS sxx,
  regr_syy(x, n) AS syy,
  regr_sxy(x, n) AS sxy
FROM readings

-- name: float_aggregates_of_one_and_of_none
SELECT id, sum(x) AS s, avg(x) AS a, var_samp(x) AS v, stddev_pop(x) AS d FROM readings WHERE id < 40 GROUP BY id

-- name: float_aggregates_of_many_groups
SELECT l_partkey, sum(CAST(l_extendedprice AS DOUBLE)) AS s, avg(CAST(l_discount AS DOUBLE)) AS a FROM lineitem GROUP BY l_partkey

-- name: decimal_aggregates
SELECT
  room,
  sum(price) AS s,
  avg(price) AS a,
  min(price) AS lo,
  max(price) AS hi,
  sum(price * 1.05) AS taxed,
  sum(price) / count(price) AS by_hand
FROM readings
GROUP BY room

-- name: decimal_arithmetic
SELECT id, price * 2 AS a, price + 0.5 AS b, price / 3 AS c, price % 7 AS d, CAST(price AS DECIMAL(20, 1)) AS e, -price AS f
FROM readings

-- name: medians_and_booleans
SELECT room, median(n) AS m, bool_and(flag) AS every, bool_or(flag) AS some, bit_xor(id) AS bits FROM readings GROUP BY room

-- name: texts_put_together
SELECT room, string_agg(note, '/' ORDER BY id) AS notes FROM readings WHERE id % 10 = 0 GROUP BY room

-- name: first_and_last_by_order
SELECT room, first_value(n ORDER BY id) AS first, last_value(note ORDER BY id) AS last FROM readings GROUP BY room

-- name: aggregates_without_groups
SELECT count(*) AS a, count(n) AS b, sum(n) AS c, min(day) AS d, max(at) AS e, avg(n) AS f FROM readings

-- name: having
SELECT l_suppkey, count(*) AS lines FROM lineitem GROUP BY l_suppkey HAVING count(*) > 620 AND min(l_quantity) = 1

-- name: group_by_expression
SELECT extract(YEAR FROM o_orderdate) AS y, extract(MONTH FROM o_orderdate) AS m, count(*) AS orders, max(o_totalprice) AS top
FROM orders
GROUP BY extract(YEAR FROM o_orderdate), extract(MONTH FROM o_orderdate)

-- name: group_by_null_keys
SELECT room, day, flag, count(*) AS rows FROM readings GROUP BY room, day, flag

-- name: inner_join_using
SELECT a.id, a.n AS n, b.x AS x FROM readings AS a JOIN readings AS b USING (id) WHERE a.flag AND b.n > 0

-- name: left_join_with_condition
SELECT c_custkey, o_orderkey FROM customer LEFT JOIN orders ON c_custkey = o_custkey AND o_totalprice > 350000 WHERE c_nationkey < 4

-- name: left_join_then_is_null
SELECT c_custkey FROM customer LEFT JOIN orders ON c_custkey = o_custkey WHERE o_orderkey IS NULL

-- name: right_join
SELECT o_orderkey, c_name FROM orders RIGHT JOIN customer ON o_custkey = c_custkey AND o_orderstatus = 'P'

-- name: full_join
SELECT a.id AS a, b.id AS b
FROM (SELECT * FROM readings WHERE id % 2 = 0) AS a FULL JOIN (SELECT * FROM readings WHERE id % 3 = 0) AS b ON a.id = b.id

-- name: full_join_on_null_keys
SELECT a.id AS a, b.id AS b, a.n AS n
FROM (SELECT * FROM readings WHERE id < 100) AS a FULL JOIN (SELECT * FROM readings WHERE id >= 2900) AS b ON a.n = b.n

-- name: full_join_with_nothing
SELECT a.id AS a, b.id AS b FROM readings AS a FULL JOIN nothing AS b ON a.id = b.id

-- name: semi_join
SELECT c_custkey, c_name FROM customer LEFT SEMI JOIN orders ON c_custkey = o_custkey AND o_orderpriority = '1-URGENT'

-- name: anti_join
SELECT c_custkey, c_name FROM customer LEFT ANTI JOIN orders ON c_custkey = o_custkey AND o_orderpriority = '1-URGENT'

-- name: right_semi_and_anti_join
SELECT c_custkey AS k, 'with' AS what FROM orders RIGHT SEMI JOIN customer ON c_custkey = o_custkey
UNION ALL
SELECT c_custkey, 'without' FROM orders RIGHT ANTI JOIN customer ON c_custkey = o_custkey

-- name: cross_join
SELECT r_name, s_suppkey FROM region CROSS JOIN supplier

-- name: join_by_inequality
SELECT a.id AS a, count(*) AS smaller
FROM readings AS a JOIN readings AS b ON b.n < a.n AND b.id BETWEEN a.id - 20 AND a.id
WHERE a.id < 500
GROUP BY a.id

-- name: join_on_expression
SELECT count(*) AS pairs, sum(a.n) AS s FROM readings AS a JOIN readings AS b ON a.id + 1 = b.id AND coalesce(a.room, '') = coalesce(b.room, '')

-- name: join_null_safe
SELECT count(*) AS pairs FROM readings AS a JOIN readings AS b ON (a.n IS NOT DISTINCT FROM b.n) AND a.day = b.day

-- name: self_join
SELECT a.n_name AS a, b.n_name AS b FROM nation AS a JOIN nation AS b ON a.n_regionkey = b.n_regionkey AND a.n_nationkey < b.n_nationkey

-- name: join_of_seven
SELECT r_name, p_brand, count(*) AS lines, sum(l_quantity) AS q
FROM region
JOIN nation ON n_regionkey = r_regionkey
JOIN customer ON c_nationkey = n_nationkey
JOIN orders ON o_custkey = c_custkey
JOIN lineitem ON l_orderkey = o_orderkey
JOIN partsupp ON ps_partkey = l_partkey AND ps_suppkey = l_suppkey
JOIN part ON p_partkey = ps_partkey
GROUP BY r_name, p_brand

-- name: join_of_aggregates
SELECT o.k, o.orders, l.lines
FROM (SELECT o_orderdate AS k, count(*) AS orders FROM orders GROUP BY o_orderdate) AS o
JOIN (SELECT l_shipdate AS k, count(*) AS lines FROM lineitem GROUP BY l_shipdate) AS l ON o.k = l.k

-- name: join_with_skew
SELECT r.room, count(*) AS rows, sum(l.l_quantity) AS q
FROM readings AS r JOIN lineitem AS l ON l.l_linenumber = r.n % 3 + 1
WHERE r.id < 60
GROUP BY r.room

-- name: common_table_used_twice
WITH per_nation AS (
  SELECT c_nationkey AS k, sum(c_acctbal) AS total FROM customer GROUP BY c_nationkey
)
SELECT a.k AS a, b.k AS b
FROM per_nation AS a JOIN per_nation AS b ON a.total > b.total * 1.1

-- name: common_tables_in_a_chain
WITH a AS (SELECT id, n, room FROM readings WHERE n IS NOT NULL),
b AS (SELECT room, sum(n) AS s FROM a GROUP BY room),
c AS (SELECT a.id, a.n, b.s FROM a JOIN b ON a.room = b.room WHERE a.n * 100 > b.s)
SELECT count(*) AS rows, min(s) AS lo, max(s) AS hi FROM c

-- name: values_and_no_table
SELECT k, name FROM (VALUES (1, 'one'), (2, 'two'), (3, NULL)) AS v (k, name) WHERE k <> 2

-- name: values_joined
SELECT v.name, count(n_nationkey) AS nations
FROM (VALUES (0, 'Africa'), (1, 'America'), (9, 'Nowhere')) AS v (k, name) LEFT JOIN nation ON n_regionkey = v.k
GROUP BY v.name

-- name: empty_result
SELECT l_orderkey, l_comment FROM lineitem WHERE l_quantity > 1000

-- name: empty_result_of_an_aggregate
SELECT l_shipmode, sum(l_quantity) AS q FROM lineitem WHERE l_quantity > 1000 GROUP BY l_shipmode

-- name: empty_table
SELECT id, room, x, n, at, day, flag, price, note FROM nothing

-- name: aggregate_of_empty_table
SELECT count(*) AS c, sum(n) AS s, avg(x) AS a, min(note) AS m, stddev(x) AS d FROM nothing

-- name: join_with_empty_table
SELECT r.id FROM readings AS r JOIN nothing AS e ON r.id = e.id

-- name: left_join_with_empty_table
SELECT r.id, e.note FROM readings AS r LEFT JOIN nothing AS e ON r.id = e.id WHERE r.id < 50

-- name: case_and_coalesce
SELECT
  id,
  CASE WHEN n < 0 THEN 'less' WHEN n = 0 THEN 'zero' WHEN n > 0 THEN 'more' END AS sign,
  CASE room WHEN 'attic' THEN 1 WHEN 'hall' THEN 2 ELSE 0 END AS room_number,
  coalesce(note, room, 'none') AS text,
  nullif(n, 7) AS not_seven,
  greatest(n, 5) AS g,
  least(n, 5) AS l
FROM readings

-- name: like
SELECT
  id,
  note LIKE '50%' AS a,
  room LIKE 'kitchen\_2' AS b,
  note LIKE '%\%%' AS c,
  note NOT LIKE '%o%' AS d,
  note ILIKE 'GR%' AS e,
  room LIKE '_____' AS f,
  note LIKE '' AS g
FROM readings

-- name: texts
SELECT
  id,
  upper(note) AS u,
  lower(room) AS l,
  character_length(note) AS len,
  substring(note FROM 2 FOR 3) AS mid,
  trim(note) AS t,
  replace(note, 'o', '0') AS r,
  note || '-' || room AS both,
  strpos(note, 'f') AS at_f,
  left(room, 2) AS start,
  split_part(note, ' ', 1) AS part
FROM readings

-- name: dates_and_intervals
SELECT
  id,
  day + INTERVAL '1' MONTH AS next_month,
  day - INTERVAL '10' DAY AS before,
  day + INTERVAL '1 year 2 months 3 days' AS later,
  extract(YEAR FROM day) AS y,
  extract(MONTH FROM day) AS m,
  extract(DOW FROM day) AS w,
  extract(DOY FROM day) AS d,
  date_trunc('month', day) AS month,
  day < DATE '2024-06-30' AS early,
  day - DATE '2024-01-01' AS since
FROM readings

-- name: times
SELECT
  id,
  at + INTERVAL '90' MINUTE AS later,
  date_trunc('hour', at) AS hour,
  extract(HOUR FROM at) AS h,
  extract(SECOND FROM at) AS s,
  CAST(at AS DATE) AS day,
  at >= TIMESTAMP '2024-02-01 00:00:00' AS february,
  date_bin(INTERVAL '15' MINUTE, at, TIMESTAMP '2024-01-01 00:00:00') AS quarter
FROM readings

-- name: grouped_by_time
SELECT date_trunc('day', at) AS d, count(*) AS rows, sum(x) AS s, min(at) AS first FROM readings GROUP BY date_trunc('day', at)

-- name: joined_by_time
SELECT a.id AS a, b.id AS b FROM readings AS a JOIN readings AS b ON b.at > a.at AND b.at <= a.at + INTERVAL '3' MINUTE WHERE a.id < 300

-- name: casts
SELECT
  id,
  CAST(n AS DOUBLE) / 4 AS quarter,
  CAST(x AS BIGINT) AS whole,
  CAST(n AS VARCHAR) AS text,
  CAST(flag AS INT) AS one,
  CAST('2024-02-29' AS DATE) AS leap,
  n / 4 AS divided,
  n % 4 AS rest
FROM readings

-- name: constants_only
SELECT 1 AS one, 'text' AS text, CAST(NULL AS BIGINT) AS none, DATE '2024-02-29' AS leap, 1.5 AS decimal

-- name: count_of_a_join
SELECT count(*) AS rows FROM orders JOIN lineitem ON o_orderkey = l_orderkey

-- name: top_of_each_group_by_join
SELECT s.s_nationkey, s.s_suppkey
FROM supplier AS s
JOIN (SELECT s_nationkey, max(s_acctbal) AS top FROM supplier GROUP BY s_nationkey) AS t
  ON s.s_nationkey = t.s_nationkey AND s.s_acctbal = t.top

-- name: filter_on_every_kind_of_column
SELECT count(*) AS rows
FROM readings
WHERE x BETWEEN 10 AND 90 AND n <> 0 AND day > DATE '2024-03-01' AND note <> '' AND price > -100.5 AND NOT flag
