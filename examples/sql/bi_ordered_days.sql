-- The users and days that have orders from the day $1 to the day $2. Another attempt to plan must find the same order.
SELECT DISTINCT day, customer AS "user" FROM demo.orders WHERE day BETWEEN $1::date AND $2::date ORDER BY day, "user"
