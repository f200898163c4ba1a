/* SPDX-License-Identifier: Apache-2.0 */
/* What docker asks when a shell completes: `__complete WORDS... LAST` prints the candidates one a
 * line (a tab before what each is), then ":" and what the shell may do beside them (cobra's
 * directives: 4, no files; 0, files too). */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/docker/plugin.h"
#include "cli/models.h"
#include "cli/artifact/facts.h"
#include "cli/artifact/artifact.h"

#define NO_FILES      4
#define ANYTHING      0
#define IN_A_HURRY_MS 200

static void put(const char *word, const char *summary, const char *begun, bool describes)
{
    if (strncmp(word, begun, strlen(begun)) != 0)
        return;
    printf("%s%s%s\n", word, describes && summary ? "\t" : "", describes && summary ? summary : "");
}

static int end(int directive)
{
    printf(":%d\n", directive);
    fprintf(stderr, "Completion ended with directive: %s\n",
            directive == NO_FILES ? "ShellCompDirectiveNoFileComp" : "ShellCompDirectiveDefault");
    return CLI_OK;
}

static int complete_commands(const char *before, const char *begun, bool describes)
{
    size_t n, len = strlen(before);
    const struct docker_command *all = docker_commands(&n);
    for (size_t i = 0; i < n; i++) {
        const char *name = all[i].name;
        if (len && strncmp(name, before, len) == 0 && name[len] == ' ')
            put(name + len + 1, all[i].summary, begun, describes);
        else if (!len && !strchr(name, ' ') && all[i].summary)
            put(name, all[i].summary, begun, describes);
    }
    return end(NO_FILES);
}

/* Names of stored models, in both forms. */
static void put_models(const struct cli_args *a, const char *begun)
{
    struct err ignored = ERR_INIT;
    struct client c;
    json_t *models = NULL;
    const json_t *m, *tag;
    size_t i, k;
    if (client_init(&c, &a->config, &ignored) < 0)
        return;
    c.probe_ms = IN_A_HURRY_MS;
    if (client_probe(&c, &ignored) != 1 || artifact_models(&c, &models, &ignored) < 0)
        return;
    json_array_foreach(models, i, m)
    {
        json_array_foreach(json_object_get(m, "tags"), k, tag)
        {
            char name[256];
            const char *full = json_string_value(tag);
            facts_short_name(full ? full : "", name, sizeof(name));
            put(name, NULL, begun, false);
            if (*begun && strncmp(name, begun, strlen(begun)) != 0 && full)
                put(full, NULL, begun, false);
        }
    }
    json_decref(models);
}

static int complete_flags(const struct docker_command *c, const char *begun, bool describes)
{
    for (const struct cli_flag *f = c->flags; f->name; f++) {
        char word[64];
        snprintf(word, sizeof(word), "--%s", f->name);
        put(word, f->help, begun, describes);
    }
    put("--help", "Print the command's help", begun, describes);
    return end(NO_FILES);
}

int docker_complete(int argc, char **argv, bool describes)
{
    int n_words = 0;
    const char *last = argc ? argv[argc - 1] : "";
    if (argc <= 1)
        return complete_commands("", last, describes);
    const struct docker_command *c = docker_find(argc - 1, argv, &n_words);
    if (!c)
        return end(NO_FILES);
    if (last[0] == '-')
        return complete_flags(c, last, describes);
    const char *before = argv[argc - 2];
    for (const struct cli_flag *f = c->flags; f->name; f++) {
        if (before[0] == '-' && before[1] == '-' && strcmp(before + 2, f->name) == 0 && f->arg)
            return end(strcmp(f->arg, "file") == 0 || strcmp(f->arg, "dir") == 0 ? ANYTHING
                                                                                 : NO_FILES);
    }
    if (argc == 2 && strcmp(c->name, "configure") == 0)
        put("show", "what is declared", last, describes);
    struct cli_args a = {.command = NULL};
    struct err ignored = ERR_INIT;
    bool takes_model = strstr(c->operands, "MODEL") || strstr(c->operands, "SOURCE");
    bool is_first = argc - 1 == n_words || c->max_operands > 1;
    if (takes_model && is_first && config_load(&a.config, UINT64_MAX, NULL, &ignored) == 0)
        put_models(&a, last);
    cli_args_release(&a);
    return end(NO_FILES);
}
