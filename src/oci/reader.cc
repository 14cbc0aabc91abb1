#include "oci/reader.h"

#include <algorithm>

namespace caisson::oci {

void Reading::fail(std::string_view path, std::string_view problem) {
  if (error_) return;
  error_ = path.empty() ? make_error(EINVAL, "{}: {}", document_, problem) : make_error(EINVAL, "{}: {}: {}", document_, path, problem);
}

std::string Node::member_path(std::string_view name) const {
  bool plain =
      !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
  if (!plain) return fmt::format("{}[\"{}\"]", path_, excerpt(name));
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

Node Node::operator[](std::string_view name) const {
  const Json* member = nullptr;
  if (expect_object()) {
    auto found = value_->find(name);
    if (found != value_->end()) member = &*found;
  }
  return Node(*reading_, member, member_path(name));
}

bool Node::expect_object() const {
  if (!present() || reading_->failed()) return false;
  if (!value_->is_object()) fail_value("must be an object");
  return value_->is_object();
}

bool Node::expect_array() const {
  if (!present() || reading_->failed()) return false;
  if (!value_->is_array()) fail_value("must be an array");
  return value_->is_array();
}

void Node::read(bool& out) const {
  if (!present() || reading_->failed()) return;
  if (!value_->is_boolean()) return fail_value("must be true or false");
  out = value_->get<bool>();
}

void Node::read(std::string& out) const {
  if (!present() || reading_->failed()) return;
  if (!value_->is_string()) return fail_value("must be a string");
  out = value_->get_ref<const std::string&>();
}

void Node::read(std::vector<std::string>& out) const {
  each([&](const Node& element) {
    if (!element.present()) return element.fail_value("must be a string");
    element.read(out.emplace_back());
  });
}

void Node::read(std::map<std::string, std::string>& out) const {
  each_member([&](const std::string& key, const Node& element) { element.read(out[key]); });
}

bool Node::read_number(Wide& out, Wide min, Wide max) const {
  if (!present() || reading_->failed()) return false;
  bool whole = value_->is_number_integer();
  if (whole) out = value_->is_number_unsigned() ? static_cast<Wide>(value_->get<uint64_t>()) : static_cast<Wide>(value_->get<int64_t>());
  if (whole && out >= min && out <= max) return true;
  fail_value(fmt::format("must be a number from {} to {}", min, max));
  return false;
}

const Node& Node::required() const {
  if (!present()) fail("must be given");
  return *this;
}

void Node::check_absolute(const std::string& text) const {
  if (!text.starts_with('/')) fail_value("must be absolute");
}

std::string Node::show() const {
  if (value_ == nullptr) return "not given";
  if (value_->is_object()) return "an object";
  if (value_->is_array()) return "an array";
  return excerpt(value_->dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string list_names(std::span<const std::string_view> names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) text += fmt::format("{}{}", i == 0 ? "" : i + 1 == names.size() ? " or " : ", ", names[i]);
  return text;
}

}  // namespace caisson::oci
