# SPDX-License-Identifier: Apache-2.0
"""The parts of the test server (../pbs_server.py): what a Proxmox Backup server answers.

    schema      parameters: grammar, types, limits
    containers  blobs and indexes
    answers     what is sent back
    store       a datastore directory; its locks
    auth        users, tickets, tokens, privileges
    rest        REST calls
    session     backup and reader sessions
    http1       connections: TLS, HTTP/1.1, the upgrade
    http2       an upgraded connection
    faults      requests on record, and what a test wants to go wrong with them
"""
