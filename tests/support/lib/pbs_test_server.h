/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_test_server - tests/support/pbs_server.py in a process of its own, for unit tests of what
 * talks to a server.
 *
 * There is one for the whole program, with many datastores; it ends with the program.
 */
#ifndef PXARFS_TESTS_PBS_TEST_SERVER_H
#define PXARFS_TESTS_PBS_TEST_SERVER_H

/* The spelling of an empty datastore that nobody has used yet; starts the server if there is none,
 * and sets $PBS_PASSWORD and $PBS_FINGERPRINT.  NULL: it does not start, or all are used. */
const char *pbs_test_server_store(void);

#endif
