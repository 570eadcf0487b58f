/* Completions for bash, zsh and fish, made from the command table. */
#include "clients/cli/completion.h"
#include "clients/replay/replay.h"

static void put_commands(FILE *out) {
    for (const struct replay_command *c = replay_commands; c->name; c++) {
        fprintf(out, "%s ", c->name);
    }
}

static void completion_bash(FILE *out) {
    completion_bash_begin("jumun-replay", replay_global_options, "", out);
    fputs("    case \"$command $prev\" in\n", out);
    for (const struct replay_command *c = replay_commands; c->name; c++) {
        completion_bash_values(c->name, c->options, out);
    }
    completion_bash_values(NULL, replay_global_options, out);
    fputs("    esac\n    case $command in\n        '') words='", out);
    put_commands(out);
    fputs("'; words+=$global;;\n        completion) words='bash zsh fish';;\n"
          "        help) words='", out);
    put_commands(out);
    fputs("';;\n", out);
    for (const struct replay_command *c = replay_commands; c->name; c++) {
        if (!c->options) continue;
        fprintf(out, "        %s) words='", c->name);
        completion_options(c->options, out);
        fputs("'; words+=$global;;\n", out);
    }
    fputs("        *) words=$global;;\n    esac\n"
          "    case \"$command $cur\" in\n        ' '*|help*|completion*|*' -'*) ;;\n"
          "        *) COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n    esac\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
          "complete -o filenames -F _jumun_replay jumun-replay\n", out);
}

static void completion_fish(FILE *out) {
    char condition[128];
    fputs("# fish completion of jumun-replay\n", out);
    completion_fish_options("jumun-replay", "", replay_global_options, out);
    for (const struct replay_command *c = replay_commands; c->name; c++) {
        fprintf(out, "complete -c jumun-replay -f -n __fish_use_subcommand -a %s -d ", c->name);
        completion_fish_text(c->summary, out);
        fputc('\n', out);
        snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %s'", c->name);
        completion_fish_options("jumun-replay", condition, c->options, out);
        fprintf(out, "complete -c jumun-replay -f -n '__fish_seen_subcommand_from help' -a %s\n",
                c->name);
    }
    fputs("complete -c jumun-replay -f -n '__fish_seen_subcommand_from completion' "
          "-a 'bash zsh fish'\n", out);
}

int replay_completion(struct replay *r) {
    const char *shell = replay_word(r, 0);
    if (completion_print("jumun-replay", shell, completion_bash, completion_fish))
        return REPLAY_DONE;
    return replay_usage(r, "\"%.40s\" is not bash, zsh or fish", shell);
}
