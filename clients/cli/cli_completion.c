/* Completions for bash, zsh and fish, made from the command table. */
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/completion.h"

/* The first words of all commands, each once. */
static void completion_first_words(FILE *out) {
    char before[32] = "";
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        int size = (int)strcspn(c->name, " ");
        if ((size_t)size == strlen(before) && strncmp(before, c->name, (size_t)size) == 0) continue;
        snprintf(before, sizeof before, "%.*s", size, c->name);
        fprintf(out, "%s ", before);
    }
}

/* Calls put(first word, its size) once for each group such as "store", behind a separator. */
static void completion_groups(const char *separator, void (*put)(const char *, int, FILE *),
                              FILE *out) {
    const char *before = "";
    int before_size = 0;
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        int size = (int)strcspn(c->name, " ");
        if (!c->name[size] || (size == before_size && strncmp(before, c->name, (size_t)size) == 0))
            continue;
        if (before_size) fputs(separator, out);
        before = c->name;
        before_size = size;
        put(before, size, out);
    }
}

static void completion_group_name(const char *group, int size, FILE *out) {
    fprintf(out, "%.*s", size, group);
}

/* What follows the group's name, as a command or behind help. */
static void completion_group_words(const char *group, int size, FILE *out) {
    fprintf(out, "        %.*s|'help %.*s') words='", size, group, size, group);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        if (strncmp(c->name, group, (size_t)size + 1) == 0) fprintf(out, "%s ", c->name + size + 1);
    }
    fputs("';;\n", out);
}

static void completion_bash(FILE *out) {
    fputs("# bash completion of jumun\n_jumun() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local i command= words= global='", out);
    completion_options(cli_global_options, out);
    fputs("'\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        case ${COMP_WORDS[i]} in\n            ", out);
    completion_takers(cli_global_options, out);
    fputs(") ((i++));;\n            -*) ;;\n            help|", out);
    completion_groups("|", completion_group_name, out);
    fputs(") command=\"${COMP_WORDS[i]}\"\n"
          "                ((i + 1 < COMP_CWORD)) && command+=\" ${COMP_WORDS[i+1]}\"; break;;\n"
          "            *) command=${COMP_WORDS[i]}; break;;\n"
          "        esac\n    done\n"
          "    case \"$command $prev\" in\n", out);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        completion_bash_values(c->name, c->options, out);
    }
    completion_bash_values(NULL, cli_global_options, out);
    fputs("    esac\n    case $command in\n        '') words='", out);
    completion_first_words(out);
    fputs("'; words+=$global;;\n        completion) words='bash zsh fish';;\n", out);
    completion_groups("", completion_group_words, out);
    fputs("        help|encode) words='", out);
    completion_first_words(out);
    fputs("';;\n", out);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        if (!c->options && !c->writes) continue;
        if (c->run == cli_encode) continue;
        fprintf(out, "        '%s') words='", c->name);
        completion_options(c->options, out);
        if (c->writes) completion_options(cli_write_options, out);
        fputs("'; words+=$global;;\n", out);
    }
    fputs("        decode) COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n"
          "        *) words=$global;;\n    esac\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
          "complete -o filenames -F _jumun jumun\n", out);
}

static void completion_fish(FILE *out) {
    fputs("# fish completion of jumun\ncomplete -c jumun -f\n", out);
    completion_fish_options("jumun", "", cli_global_options, out);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        char condition[160];
        const char *second = strchr(c->name, ' ');
        int size = (int)strcspn(c->name, " ");
        if (second) {
            fprintf(out, "complete -c jumun -n '__fish_seen_subcommand_from %.*s' -a %s -d ", size,
                    c->name, second + 1);
        } else {
            fprintf(out, "complete -c jumun -n __fish_use_subcommand -a %s -d ", c->name);
        }
        completion_fish_text(c->summary, out);
        fputc('\n', out);
        snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %.*s'", size,
                 c->name);
        completion_fish_options("jumun", condition, c->options, out);
        if (c->writes) completion_fish_options("jumun", condition, cli_write_options, out);
    }
    fputs("complete -c jumun -n __fish_use_subcommand -a store -d 'pause, resume or show a store'\n"
          "complete -c jumun -n __fish_use_subcommand -a replica -d 'look after replicas'\n"
          "complete -c jumun -n __fish_use_subcommand -a key -d 'make or read keys'\n"
          "complete -c jumun -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n",
          out);
}

int cli_completion(struct cli *cli) {
    const char *shell = cli_word(cli, 0);
    if (completion_print("jumun", shell, completion_bash, completion_fish)) return CLI_DONE;
    return cli_usage(cli, "\"%.40s\" is not bash, zsh or fish", shell);
}
