SELECT lane, lane_id FROM make_lanes($1, $2, $3, $4)
