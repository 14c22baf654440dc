drop table asked_alert;
drop table asked_child;
