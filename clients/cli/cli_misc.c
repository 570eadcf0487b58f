/* key, decode, version, help: what needs no node. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/help.h"
#include "clients/cli/text.h"
#include "engine/base/hex.h"

int cli_key_new(struct cli *cli) {
    int64_t count = 1;
    if (!cli_int_option(cli, "count", &count)) return CLI_USAGE;
    if (count < 1 || count > 1000000) {
        return cli_usage(cli, "--count: must lie between 1 and 1000000");
    }
    json_t *keys = cli->json ? json_array() : NULL;
    for (int64_t i = 0; i < count; i++) {
        jumun_key key = jumun_key_new();
        char text[JUMUN_KEY_TEXT_BYTES];
        jumun_key_format(&key, text);
        if (keys) json_array_append_new(keys, json_string(text));
        else puts(text);
    }
    return keys ? cli_print_json(keys) : CLI_DONE;
}

int cli_key_parse(struct cli *cli) {
    jumun_key key;
    if (!cli_key(cli, cli_word(cli, 0), &key)) return CLI_USAGE;
    char text[JUMUN_KEY_TEXT_BYTES], hex[33], time[TEXT_BYTES], relative[TEXT_BYTES];
    int64_t born = 0;
    for (int i = 0; i < 6; i++) born = born << 8 | key.bytes[i];
    hex_format(key.bytes, 16, hex);
    jumun_key_format(&key, text);
    if (cli->json) {
        return cli_print_json(json_pack("{s:s, s:s, s:I}", "key", text, "hex", hex, "born_ms",
                                        (json_int_t)born));
    }
    printf("key   %s\nhex   %s\nborn  %s  (%s)\n", text, hex, text_time(time, born),
           text_relative(relative, born, text_now_ms()));
    return CLI_DONE;
}

int cli_decode(struct cli *cli) {
    char error[64] = "";
    const char *path = cli_word(cli, 0) ? cli_word(cli, 0) : "-";
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!file) {
        cli_error(cli, "%s: %s", path, strerror(errno));
        return CLI_BAD_FILE;
    }
    enum { BYTES_MAX = 8 << 20 };
    char *bytes = malloc(BYTES_MAX);
    size_t size = bytes ? fread(bytes, 1, BYTES_MAX, file) : 0, offset = 0;
    if (file != stdin) fclose(file);
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    int status = CLI_DONE;
    while (offset < size) {
        size_t at = offset;
        if (msgpack_unpack_next(&unpacked, bytes, size, &offset) != MSGPACK_UNPACK_SUCCESS) {
            snprintf(error, sizeof error, "byte %zu: not whole msgpack", at);
            break;
        }
        cli_print_json(value_to_json(&unpacked.data));
    }
    if (size == 0) snprintf(error, sizeof error, "is empty");
    if (error[0]) {
        cli_error(cli, "%s: %s", strcmp(path, "-") == 0 ? "standard input" : path, error);
        status = CLI_BAD_FILE;
    }
    msgpack_unpacked_destroy(&unpacked);
    free(bytes);
    return status;
}

int cli_version(struct cli *cli) {
    if (cli->json) {
        return cli_print_json(json_pack("{s:s, s:s}", "jumun", JUMUN_VERSION, "libjumun",
                                        jumun_version()));
    }
    printf("jumun %s (libjumun %s)\n", JUMUN_VERSION, jumun_version());
    return CLI_DONE;
}

/* -- help -------------------------------------------------------------------------------------- */

/* NULL = of all commands. */
static void help_exits(const struct cli_command *c, FILE *out) {
    if (c && c->run == cli_backup) {
        help_indented("that of jumun-replay backup: see jumun-replay help backup", out);
        return;
    }
    help_indented("0  done", out);
    fprintf(out, "  1  %s\n", c && c->refused ? c->refused
            : "refused by the engine; the number and the sentence are on stderr");
    help_indented("2  wrong usage, or a replica's address for a node's, or the other way round\n"
                  "3  no connection, no leader of the shard, or the outcome is unknown\n"
                  "4  a file cannot be read, understood or written\n"
                  "141  who read standard output went away (head)", out);
}

void cli_print_help(const struct cli *cli, const struct cli_command *c, FILE *out) {
    fprintf(out, "%sjumun %s%s%s%s [OPTION]...\n%c%s.\n", CLI_STYLE(cli, "1"), c->name,
            CLI_PLAIN(cli), *c->arguments ? " " : "", c->arguments,
            toupper((unsigned char)c->summary[0]), c->summary + 1);
    if (c->details) {
        fputc('\n', out);
        fprintf(out, "%s\n", c->details);
    }
    if (c->options) {
        help_heading(cli->color, "Options", out);
        help_options(cli->color, c->options, out);
    }
    if (c->writes) {
        help_heading(cli->color, "Options of every command that changes something", out);
        help_options(cli->color, cli_write_options, out);
    }
    help_heading(cli->color, "Global options", out);
    help_options(cli->color, cli_global_options, out);
    if (c->examples) {
        help_heading(cli->color, "Examples", out);
        help_indented(c->examples, out);
    }
    help_heading(cli->color, "Exit status", out);
    help_exits(c, out);
}

static void help_commands(const struct cli *cli, const char *group, FILE *out) {
    size_t size = strlen(group);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        char left[64];
        if (size > 0 && (strncmp(c->name, group, size) != 0 || c->name[size] != ' ')) continue;
        snprintf(left, sizeof left, "%s%s%s", c->name, *c->arguments ? " " : "", c->arguments);
        fprintf(out, "  %s%-28s%s  %s\n", CLI_STYLE(cli, "36"), left, CLI_PLAIN(cli), c->summary);
    }
}

void cli_print_group(const struct cli *cli, const char *group, FILE *out) {
    fprintf(out, "%sjumun %s%s COMMAND [ARGUMENT]...\n", CLI_STYLE(cli, "1"), group,
            CLI_PLAIN(cli));
    help_heading(cli->color, "Commands", out);
    help_commands(cli, group, out);
    fprintf(out, "\nMore: jumun help %s COMMAND, man jumun\n", group);
}

void cli_print_overview(const struct cli *cli, FILE *out) {
    fprintf(out, "%sjumun%s [OPTION]... COMMAND [ARGUMENT]...\n"
                 "Places, moves and watches the orders of a Jumun order engine.\n",
            CLI_STYLE(cli, "1"), CLI_PLAIN(cli));
    help_heading(cli->color, "Commands", out);
    help_commands(cli, "", out);
    help_heading(cli->color, "Options", out);
    help_options(cli->color, cli_global_options, out);
    help_heading(cli->color, "Examples", out);
    help_indented("KEY=$(jumun -q place --store s1 --currency KRW --line bibimbap:1:9500)\n"
                  "jumun pay $KEY 9500 --reference pg-1\njumun accept $KEY --minutes 20\n"
                  "jumun get $KEY\njumun top", out);
    help_heading(cli->color, "Exit status", out);
    help_exits(NULL, out);
    fputs("\nMore: jumun help COMMAND, man jumun\n", out);
}

int cli_help(struct cli *cli) {
    int used, count = cli->args.positionals_count;
    if (count == 0) {
        cli_print_overview(cli, stdout);
        return CLI_DONE;
    }
    const struct cli_command *c = cli_find(cli->args.positionals, count, &used);
    if (!c && count == 1 && cli_is_group(cli->args.positionals[0])) {
        cli_print_group(cli, cli->args.positionals[0], stdout);
        return CLI_DONE;
    }
    if (!c) return cli_unknown(cli, cli->args.positionals, count);
    cli_print_help(cli, c, stdout);
    return CLI_DONE;
}
