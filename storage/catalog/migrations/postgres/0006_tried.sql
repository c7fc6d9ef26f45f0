-- Only of shards that were tried: an index of all that are ready looked to the planner like the way to the lowest one, and
-- every lease cost a sort of them.
drop index reinforce.shards_tried;
create index shards_tried on reinforce.shards (job, attempts) where state = 1 and attempts > 0;
