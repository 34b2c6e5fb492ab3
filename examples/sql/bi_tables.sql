-- Orders of a shop, and the totals that examples/bi.py makes of them.
CREATE SCHEMA demo;
CREATE TABLE demo.orders (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text   NOT NULL,
    day      date   NOT NULL,
    cents    int    NOT NULL
);
CREATE INDEX orders_of_day ON demo.orders (customer, day) INCLUDE (cents);
CREATE TABLE demo.daily_total (
    customer     text   NOT NULL,
    day          date   NOT NULL,
    orders       int    NOT NULL,
    cents        bigint NOT NULL,
    execution_id text   NOT NULL,  -- whose total it is, and of which attempt: an older one cannot overwrite it
    attempt      int    NOT NULL,
    PRIMARY KEY (customer, day)
);
