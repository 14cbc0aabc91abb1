// mounts, mountinfo, mountstats.
#include "kernel/fs/proc/facts.h"
#include "kernel/fs/registry.h"

namespace caisson::kernel {
namespace {

// Blanks and the like as octal escapes (fstab(5)).
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\\' || c == '#')
      append_format(result, "\\%03o", static_cast<unsigned>(static_cast<unsigned char>(c)));
    else
      result.push_back(c);
  }
  return result;
}

struct Row {
  MountRef mount;
  std::string point;
};

Result<std::vector<Row>> rows_of(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  std::vector<Row> rows;
  if (!facts.fs || !facts.spaces) return rows;
  const Path root = facts.fs->root();
  for (const MountRef& mount : facts.spaces->mounts->all()) {
    const auto point = place_text(root, {mount, mount->root});
    if (point) rows.push_back({mount, escaped(*point)});
  }
  return rows;
}

// How it spreads (mount_namespaces(7)).
std::string optional_fields(const MountRef& mount) {
  const PropagationFacts facts = MountTable::propagation(mount);
  std::string text;
  if (facts.shared != 0) text += " shared:" + std::to_string(facts.shared);
  if (facts.master != 0) text += " master:" + std::to_string(facts.master);
  if (facts.unbindable) text += " unbindable";
  return text;
}

std::string source_of(const Mount& mount) { return mount.source.empty() ? "none" : escaped(mount.source); }
std::string own_options(const Mount& mount) { return mount.options.empty() ? "" : "," + escaped(mount.options); }

}  // namespace

std::string root_text(const DentryRef& root, bool says_all) {
  if (says_all) return root->name();
  std::string text;
  for (DentryRef at = root; at && at->parent() && text.size() < 65536; at = at->parent()) text = "/" + at->name() + text;
  return text.empty() ? "/" : text;
}

Result<std::string> proc_mounts(Task& reader, const ProcSubject& subject) {
  std::string text;
  for (const Row& row : TRY(rows_of(reader, subject)))
    text += source_of(*row.mount) + " " + row.point + " " + row.mount->fs->name() + " " + mount_flags_text(row.mount->flags) +
            own_options(*row.mount) + " 0 0\n";
  return text;
}

Result<std::string> proc_mountinfo(Task& reader, const ProcSubject& subject) {
  std::string text;
  for (const Row& row : TRY(rows_of(reader, subject))) {
    const Mount& mount = *row.mount;
    const MountRef above = mount.point().mount;
    append_format(text, "%lu %lu 0:%u ", static_cast<unsigned long>(mount.id), static_cast<unsigned long>(above ? above->id : mount.id - 1),
                  mount.fs->device);
    text += escaped(root_text(mount.root, mount.fs->names_say_all())) + " " + row.point + " " + mount_flags_text(mount.flags) +
            optional_fields(row.mount) + " - " + mount.fs->name() + " " + source_of(mount) + " " + (mount.read_only() ? "ro" : "rw") +
            own_options(mount) + "\n";
  }
  return text;
}

Result<std::string> proc_mountstats(Task& reader, const ProcSubject& subject) {
  std::string text;
  for (const Row& row : TRY(rows_of(reader, subject)))
    text += "device " + source_of(*row.mount) + " mounted on " + row.point + " with fstype " + row.mount->fs->name() + "\n";
  return text;
}

}  // namespace caisson::kernel
