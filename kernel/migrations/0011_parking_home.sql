-- Parking lots and sessions; homes, consent and contacts.
SELECT 1;
