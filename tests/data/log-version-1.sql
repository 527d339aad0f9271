-- A log as version 1 wrote it (sqlite3's .dump): one alert, judged and closed. Never edited.
BEGIN TRANSACTION;
CREATE TABLE activity (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, alert_id TEXT NOT NULL, at BIGINT NOT NULL, recorded_at BIGINT NOT NULL, type TEXT NOT NULL,
        actor TEXT, actor_kind TEXT NOT NULL, value TEXT, number DOUBLE PRECISION, until BIGINT, payload TEXT);
INSERT INTO "activity" VALUES(1,'8a32cf568c454b132aaea6be3770beed','ce4438de49d155e49882ecb801a02802',1767604020000000,1767604020000000,'verdict','bob','human','false_positive',NULL,NULL,'{"reason": "seen before"}');
INSERT INTO "activity" VALUES(2,'fff17b8dc2d924feba8f15e63ceb8f09','ce4438de49d155e49882ecb801a02802',1767604020000000,1767604020000000,'closed','bob','human','seen before',NULL,NULL,NULL);
CREATE TABLE alert (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL, created_at BIGINT NOT NULL, recorded_at BIGINT NOT NULL, rule_id TEXT, rule_version TEXT,
        rule_hash TEXT, tier SMALLINT, severity TEXT NOT NULL, title TEXT, entity_kind TEXT, entity TEXT, vendor TEXT, tenant TEXT,
        window_start BIGINT, window_end BIGINT, first_activity_at BIGINT, last_activity_at BIGINT, score DOUBLE PRECISION,
        threshold DOUBLE PRECISION, table_digest TEXT, observables TEXT NOT NULL, source TEXT NOT NULL, external_id TEXT,
        history TEXT NOT NULL, is_test BOOLEAN NOT NULL);
INSERT INTO "alert" VALUES(1,'ce4438de49d155e49882ecb801a02802',1767603600000000,1767603600000000,'mail.exe','1',NULL,1,'low','An ".exe"','user_id','ann',NULL,NULL,1767571200000000,1767657600000000,1767603600000000,NULL,5.0,3.0,NULL,'[{"kind":"user","role":"entity","value":"ann"},{"kind":"ip","role":"source","value":"10.0.0.9"}]','live',NULL,'full',0);
CREATE TABLE finding (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, finding_id TEXT NOT NULL, alert_id TEXT, recorded_at BIGINT NOT NULL, detection_id TEXT NOT NULL, version TEXT,
        severity TEXT, tier SMALLINT, title TEXT, entity_kind TEXT, entity TEXT, time BIGINT NOT NULL, window_start BIGINT,
        window_end BIGINT, score DOUBLE PRECISION, threshold DOUBLE PRECISION, value DOUBLE PRECISION, peak_score DOUBLE PRECISION,
        evidence TEXT, table_digest TEXT, event_id TEXT, source TEXT, src_ip TEXT, dst_ip TEXT, suppressed_by TEXT);
INSERT INTO "finding" VALUES(1,'00000000000000000000000000000000','ce4438de49d155e49882ecb801a02802',1767603600000000,'mail.exe','1','low',1,'An ".exe"','user_id','ann',1767603600000000,NULL,NULL,5.0,3.0,NULL,5.0,NULL,NULL,NULL,NULL,'10.0.0.9',NULL,NULL);
CREATE TABLE journal (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, kind TEXT NOT NULL, name TEXT, at BIGINT NOT NULL, until BIGINT, recorded_at BIGINT NOT NULL,
        value TEXT, number DOUBLE PRECISION);
CREATE TABLE tocsin_log (version INTEGER NOT NULL);
INSERT INTO "tocsin_log" VALUES(1);
CREATE UNIQUE INDEX alert_once ON alert (alert_id);
CREATE UNIQUE INDEX activity_once ON activity (key);
CREATE UNIQUE INDEX finding_once ON finding (finding_id);
CREATE UNIQUE INDEX journal_once ON journal (key);
CREATE INDEX activity_of_alert ON activity (alert_id);
CREATE INDEX finding_of_alert ON finding (alert_id);
COMMIT;
