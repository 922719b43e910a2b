-- Version 2. A lease is held by the lock on its file, which is the same for all pid namespaces.

ALTER TABLE leases DROP COLUMN pid;
ALTER TABLE leases DROP COLUMN start;
ALTER TABLE leases DROP COLUMN boot;
