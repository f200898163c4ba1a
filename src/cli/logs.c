/* SPDX-License-Identifier: Apache-2.0 */
/* `berth logs`: the daemon's log, from the daemon itself; where none runs, what the last one that a
 * command started has left. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"
#include "lib/sys/file.h"

#define DEFAULT_LINES  100u
#define MAX_LINES      1000000u
#define MAX_FILE_BYTES (64u << 20)
#define LINE_MAX_BYTES (1u << 20)

static void on_interrupt(int signo)
{
    (void)signo;
    _exit(CLI_INTERRUPTED);
}

struct out {
    bool is_json;
    int failed;      /* errno of the first failed write */
    struct buf line; /* owned: with is_json, what has come of a line */
};

/* A line as a JSON object on a line of its own: itself where it is one. */
static void put_json_line(struct out *o)
{
    json_t *j = json_loadb(buf_str(&o->line), o->line.len, 0, NULL);
    if (json_is_object(j)) {
        printf("%s\n", buf_str(&o->line));
    } else {
        struct buf b;
        buf_init(&b, 8 * LINE_MAX_BYTES);
        json_put_str(&b, (struct str){buf_str(&o->line), o->line.len});
        printf("{\"line\": %s}\n", buf_str(&b));
        buf_release(&b);
    }
    json_decref(j);
    buf_clear(&o->line);
}

static bool feed(void *ctx, const char *p, size_t n)
{
    struct out *o = ctx;
    if (!o->is_json)
        fwrite(p, 1, n, stdout);
    for (size_t i = 0; o->is_json && i < n; i++) {
        if (p[i] == '\n')
            put_json_line(o);
        else
            buf_append_char(&o->line, p[i]); /* a longer line is cut */
    }
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    o->failed = errno;
    return false;
}

static int from_daemon(struct out *o, const struct client *c, uint64_t n_lines, bool follow,
                       struct err *err)
{
    char path[128];
    snprintf(path, sizeof(path), "/logs?lines=%llu%s", (unsigned long long)n_lines,
             follow ? "&follow=true" : "");
    return client_text(c, path, feed, o, err);
}

/* Where the last n lines of s begin. */
static size_t tail_start(const char *s, size_t len, uint64_t n)
{
    size_t at = len;
    for (; n && at > 0; at--) {
        if (s[at - 1] == '\n' && at != len && --n == 0)
            break;
    }
    return at;
}

/* The last lines of the file that autostart.c lets a daemon write. */
static int from_file(struct out *o, const struct client *c, uint64_t n_lines, struct err *err)
{
    struct buf path, text;
    buf_init(&path, LIMIT_PATH_BYTES);
    int rc = config_state_dir(&path, err);
    if (rc < 0) {
        buf_release(&path);
        return rc;
    }
    buf_append_str(&path, "/serve.log");
    rc = file_read_regular(buf_str(&path), MAX_FILE_BYTES, &text, err);
    if (rc == -E_NOTFOUND)
        rc = err_set(err, E_NOTFOUND,
                     "no daemon listens on %s, and none that a command started has left a log; a "
                     "service manager keeps its own, as in `journalctl -u berth`",
                     client_place(c));
    if (rc == 0) {
        size_t from = tail_start(buf_str(&text), text.len, n_lines);
        fprintf(stderr, "berth: no daemon listens on %s; this is what the last one left in %s\n",
                client_place(c), buf_str(&path));
        rc = feed(o, buf_str(&text) + from, text.len - from) ? 0 : -E_IO;
    }
    buf_release(&text);
    buf_release(&path);
    return rc;
}

int cmd_logs(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct out o = {.is_json = cli_has(a, "json")};
    uint64_t n_lines = DEFAULT_LINES;
    bool follow = cli_has(a, "follow");
    struct sigaction sa = {.sa_handler = on_interrupt};
    if (cli_number(a, "lines", 0, MAX_LINES, &n_lines, &err) < 0) {
        cli_fail(&err);
        return CLI_USAGE;
    }
    buf_init(&o.line, LINE_MAX_BYTES);
    sigaction(SIGINT, &sa, NULL);
    int there = client_init(&c, &a->config, &err);
    if (there == 0)
        there = client_probe(&c, &err);
    if (there == 0 && follow)
        there = err_set(&err, E_NET, "no daemon listens on %s: there is no log to follow",
                        client_place(&c));
    int rc = there < 0 ? there
             : there   ? from_daemon(&o, &c, n_lines, follow, &err)
                       : from_file(&o, &c, n_lines, &err);
    if (o.failed)
        rc = err_set(&err, E_IO, "writing to standard output: %s", strerror(o.failed));
    buf_release(&o.line);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
