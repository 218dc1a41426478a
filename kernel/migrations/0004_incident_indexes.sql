-- What dispatch asks every second must not grow with the years.
CREATE INDEX incident_closed_dedup ON incident (dedup_key, ended_at DESC) WHERE state = 'closed';
CREATE INDEX check_request_untaken ON check_request (incident_id) WHERE taken_at IS NULL;
CREATE INDEX session_of_user ON session (user_id);
