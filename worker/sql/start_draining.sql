UPDATE worker SET draining = true WHERE id = $1 AND NOT draining
