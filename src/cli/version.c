/* SPDX-License-Identifier: Apache-2.0 */
/* `berth version`: of this program and of the daemon that listens, if any. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"

/* Prompts and scripts call this: a daemon that is busy or ill does not hold them up for long. */
#define IN_A_HURRY_MS 250

int cmd_version(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c = {.port = 0};
    char text[CLIENT_VERSION_MAX];
    const char *server = NULL;
    bool is_set = client_init(&c, &a->config, &err) == 0;
    c.probe_ms = IN_A_HURRY_MS;
    if (is_set && client_version(&c, text, &err) == 1)
        server = text;
    if (cli_has(a, "json")) {
        json_t *j =
            json_pack("{s:s, s:s?, s:s}", "version", BERTH_VERSION, "daemon", server, "url", c.url);
        cli_print_json(j);
        json_decref(j);
    } else {
        printf("berth %s\ndaemon %s\n", BERTH_VERSION,
               server     ? server
               : err.code ? err.msg
                          : "not running");
    }
    return CLI_OK;
}
