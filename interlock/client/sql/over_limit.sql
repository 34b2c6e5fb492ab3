-- Keys with more slots than their limit. Right after the limit was lowered; admission of more meanwhile would be wrong.
SELECT scope || ' ' || name AS subject, format('active is %s, the limit is %s', active, lim) AS detail,
       count(*) OVER () AS total
FROM queue WHERE active > lim
ORDER BY 1 LIMIT 20
