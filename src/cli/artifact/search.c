/* SPDX-License-Identifier: Apache-2.0 */
/* `berth search` and `docker model search`: the daemon asks the hubs, and this prints. */
#include <stdio.h>
#include <string.h>

#include "cli/artifact/artifact.h"
#include "cli/commands.h"
#include "cli/docker/plugin.h"
#include "cli/docker/text.h"
#include "cli/models.h"
#include "cli/table.h"

#define PATH_BYTES        1800u
#define DESCRIPTION_CHARS 50u
#define LIMIT_DEFAULT     32u
#define LIMIT_MAX         100u

/* At most DESCRIPTION_CHARS characters. */
static void put_short(const char *text, char ret[4 * DESCRIPTION_CHARS + 8])
{
    size_t n = 0, at = 0, cut = 0;
    for (; text[at]; at++) {
        n += ((unsigned char)text[at] & 0xC0) != 0x80;
        if (n == DESCRIPTION_CHARS - 2 && !cut)
            cut = at;
        if (n > DESCRIPTION_CHARS)
            break;
    }
    if (text[at])
        snprintf(ret, 4 * DESCRIPTION_CHARS + 8, "%.*s...", (int)cut, text);
    else
        snprintf(ret, 4 * DESCRIPTION_CHARS + 8, "%s", text);
}

static void print_table(const json_t *results, bool is_docker)
{
    static const char *const titles[] = {"NAME",      "DESCRIPTION", "BACKEND", "SIZE",
                                         "DOWNLOADS", "STARS",       "SOURCE"};
    struct table t;
    size_t i;
    const json_t *o;
    table_init(&t, titles, ARRAY_LEN(titles));
    t.is_docker = is_docker;
    json_array_foreach((json_t *)results, i, o)
    {
        char about[4 * DESCRIPTION_CHARS + 8], count[16];
        put_short(answer_text(o, "description"), about);
        text_count(answer_number(o, "downloads"), count);
        table_add(&t, answer_text(o, "name"));
        table_add(&t, about);
        table_add(&t, answer_text(o, "backend"));
        table_add(&t, "n/a"); /* neither hub's list tells it */
        table_add(&t, count);
        table_add_number(&t, answer_number(o, "stars"));
        table_add(&t, answer_text(o, "source"));
    }
    table_print(&t);
    table_release(&t);
}

/* With the names of Docker Model Runner's (new reference). */
static json_t *as_docker(const json_t *results)
{
    json_t *out = json_array();
    size_t i;
    const json_t *o;
    json_array_foreach((json_t *)results, i, o) json_array_append_new(
        out,
        json_pack("{s:s, s:s, s:I, s:I, s:s, s:b, s:s, s:s, s:s}", "Name", answer_text(o, "name"),
                  "Description", answer_text(o, "description"), "Downloads",
                  (json_int_t)answer_number(o, "downloads"), "Stars",
                  (json_int_t)answer_number(o, "stars"), "Source", answer_text(o, "source"),
                  "Official", json_is_true(json_object_get(o, "official")), "UpdatedAt",
                  answer_text(o, "updated_at"), "Backend", answer_text(o, "backend"), "Size", ""));
    return out;
}

static int fetch(const struct client *c, const struct cli_args *a, json_t **ret, struct err *err)
{
    uint64_t limit = LIMIT_DEFAULT;
    const char *source = cli_flag(a, "source");
    struct buf path;
    buf_init(&path, PATH_BYTES);
    int rc = cli_number(a, "limit", 1, LIMIT_MAX, &limit, err);
    buf_printf(&path, "/berth/v1/search?limit=%llu&source=", (unsigned long long)limit);
    client_escape(&path, source ? source : "all", false);
    buf_append_str(&path, "&q=");
    client_escape(&path, a->n_operands ? a->operands[0] : "", false);
    if (rc == 0)
        rc = buf_status(&path, "what is searched", err);
    if (rc == 0)
        rc = client_json(c, "GET", buf_str(&path), NULL, ret, err);
    if (rc == 0 && !*ret)
        rc = err_set(err, E_FORMAT, "the daemon's answer is no JSON");
    buf_release(&path);
    return rc;
}

static int print_found(const json_t *answer, const struct cli_args *a, bool is_docker)
{
    const json_t *results = json_object_get(answer, "results"), *w;
    size_t i;
    json_array_foreach(json_object_get(answer, "warnings"), i, w)
        fprintf(stderr, "%swarning: %s\n", cli_speaker(), json_string_value(w));
    if (cli_has(a, "json")) {
        json_t *out = as_docker(results);
        if (is_docker)
            docker_print_json(out);
        else
            cli_print_json(out);
        json_decref(out);
    } else if (json_array_size(results)) {
        print_table(results, is_docker);
    } else {
        fprintf(stderr, "%sno model was found\n", cli_speaker());
    }
    return CLI_OK;
}

static int search(const struct client *c, const struct cli_args *a, bool is_docker)
{
    struct err err = ERR_INIT;
    json_t *answer = NULL;
    int rc = fetch(c, a, &answer, &err);
    int status = rc == -E_CANCELED ? CLI_INTERRUPTED
                 : rc < 0          ? cli_fail(&err)
                                   : print_found(answer, a, is_docker);
    json_decref(answer);
    return status;
}

int cmd_search(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    if (artifact_client(a, &c, &err) < 0)
        return err.code == E_CANCELED ? CLI_INTERRUPTED : cli_fail(&err);
    return search(&c, a, false);
}

int docker_search(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    if (artifact_heed_interrupts(&c, &err) < 0)
        return cli_fail(&err);
    return search(&c, a, true);
}
