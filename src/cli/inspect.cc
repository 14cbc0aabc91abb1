// state and list.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/lifecycle.h"
#include "oci/parse.h"

namespace caisson::cli {
namespace {

using Json = nlohmann::ordered_json;

// The document of runtime.md's "State", with what runc adds to it.
Json state_document(const ContainerState& state, const ContainerStatus& status) {
  Json json = {{"ociVersion", oci::kSpecVersion}, {"id", state.id},         {"pid", status.pid},       {"status", status.status},
               {"bundle", state.bundle},          {"rootfs", state.rootfs}, {"created", state.created}};
  if (!state.annotations.empty()) json["annotations"] = state.annotations;
  json["owner"] = user_name(state.owner);
  return json;
}

std::string dump(const Json& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

struct Row {
  ContainerState state;
  ContainerStatus status;
};

// A container that cannot be looked at is still listed: it is there, and can be deleted.
Row make_row(const Store& store, const std::string& id) {
  Row row;
  Result<ContainerState> state = store.load(id);
  if (!state.ok()) {
    row.state.id = id;
    row.status.status = "stopped";
    return row;
  }
  row.state = std::move(*state);
  Result<ContainerStatus> status = container_status(store, row.state);
  row.status = status.ok() ? *status : ContainerStatus{.status = "unknown"};
  return row;
}

void print_table(const std::vector<Row>& rows) {
  std::vector<std::vector<std::string>> cells = {{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const Row& row : rows)
    cells.push_back(
        {row.state.id, std::to_string(row.status.pid), row.status.status, row.state.bundle, row.state.created, user_name(row.state.owner)});
  std::vector<size_t> widths(cells[0].size(), 9);
  for (const auto& line : cells)
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  for (const auto& line : cells) {
    std::string text;
    for (size_t i = 0; i < line.size(); ++i) text += i + 1 == line.size() ? line[i] : fmt::format("{:<{}}   ", line[i], widths[i]);
    std::puts(text.c_str());
  }
}

}  // namespace

Result<int> state_command(Context& context) {
  std::string id;
  context.arguments.positional("container-id", id, "The container");
  TRY(context.parse());
  Store store = open_store(context.globals);
  ContainerState state = TRY(store.load(id));
  ContainerStatus status = TRY(container_status(store, state));
  std::puts(dump(state_document(state, status), 2).c_str());
  return 0;
}

Result<int> list_command(Context& context) {
  std::string format = "table";
  bool quiet = false;
  context.arguments.option("--format,-f", format, "FORMAT", "table or json (default table)");
  context.arguments.flag("--quiet,-q", quiet, "Print the ids only");
  TRY(context.parse());
  if (format != "table" && format != "json") return make_error(EINVAL, "invalid format option: {} (table and json are possible)", format);
  Store store = open_store(context.globals);
  std::vector<std::string> ids = TRY(store.ids());
  if (quiet) {
    for (const std::string& id : ids) std::puts(id.c_str());
    return 0;
  }
  std::vector<Row> rows;
  for (const std::string& id : ids) rows.push_back(make_row(store, id));
  if (format == "table") {
    print_table(rows);
    return 0;
  }
  Json array = Json::array();
  for (const Row& row : rows) array.push_back(state_document(row.state, row.status));
  std::puts(dump(array, -1).c_str());
  return 0;
}

}  // namespace caisson::cli
