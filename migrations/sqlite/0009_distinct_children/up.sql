-- The cap on distinct children (design 10): whom an author asked for in an hour, counted in hours since 1970. The number
-- stands here as it does in the audit record that is written with it, and only until the hour is over.
create table asked_child (
    hour bigint not null,
    author_key text not null,
    child text not null,
    primary key (hour, author_key, child)
);

-- That the alert of an author and hour was raised.
create table asked_alert (
    hour bigint not null,
    author_key text not null,
    primary key (hour, author_key)
);
