-- For this transaction only: whole histories are sorted and hashed.
SET LOCAL work_mem = '64MB'
