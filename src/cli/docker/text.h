/* SPDX-License-Identifier: Apache-2.0 */
/* Forms of docker's output, and how a command of the plugin reaches the daemon.  Main thread. */
#ifndef CLI_DOCKER_TEXT_H
#define CLI_DOCKER_TEXT_H

#include <jansson.h>

#include "cli/args.h"
#include "cli/client.h"

/* "3 days", "About an hour": a span as docker says it. */
const char *docker_span(int64_t seconds, char ret[32]);
/* Indented by four, as Go prints it. */
void docker_print_json(const json_t *j);
/* "2025-03-24T16:29:41Z" */
const char *docker_time(int64_t unix_s, char ret[32]);

/* A daemon that answers, one started where none does (quietly: not a word of it).  False: said why,
 * in docker's words. */
bool docker_client(const struct cli_args *a, bool quietly, struct client *ret);
/* The same without starting one: 1 it answers, 0 it does not, -1 said why. */
int docker_probe(const struct cli_args *a, struct client *ret);
/* "Docker Model Runner is not running ..." on standard error; the exit status. */
int docker_not_running(const struct client *c);

/* The daemon's address as containers reach it, such as "http://172.17.0.1:12434"; ret of 320. */
const char *docker_endpoint(const struct client *c, char *ret);

#endif
