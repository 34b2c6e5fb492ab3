SELECT * FROM batch_state($1)
