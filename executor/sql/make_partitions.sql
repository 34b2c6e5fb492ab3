SELECT make_partitions(4)
