-- The role with which EMQX asks: it sees two views and nothing else. Run once as the database's owner:  psql -f role.sql
CREATE ROLE gw_broker LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD '$password';
GRANT USAGE ON SCHEMA public TO gw_broker;
GRANT SELECT ON mqtt_login, mqtt_permission TO gw_broker;
